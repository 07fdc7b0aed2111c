// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

import {Deployment} from "../../script/Deploy.s.sol";
import {ICommitmentLog} from "../../src/interfaces/ICommitmentLog.sol";
import {IDisputes} from "../../src/interfaces/IDisputes.sol";
import {IModelRegistry} from "../../src/interfaces/IModelRegistry.sol";
import {IProviderRegistry} from "../../src/interfaces/IProviderRegistry.sol";
import {ISettlement} from "../../src/interfaces/ISettlement.sol";
import {ReceiptLib} from "../../src/libraries/ReceiptLib.sol";
import {Bls} from "./Bls.sol";

/// @notice A deployed network with its parties, for the tests to act on. This contract is administrator and treasury.
abstract contract Network is Test, Deployment {
    uint256 internal constant VERIFIERS = 3;
    uint128 internal constant STAKE = 20_000 ether;

    address internal owner = makeAddr("owner");
    address internal creator = makeAddr("creator");
    address internal payer = makeAddr("payer");
    address internal operator;
    uint256 internal operatorKey;
    address internal gateway;
    uint256 internal gatewayKey;
    address[3] internal judges;
    bytes32 internal modelId;

    function setUp() public virtual {
        vm.warp(1_000_000);
        _deploy(address(this), address(this), _params());
        (operator, operatorKey) = makeAddrAndKey("operator");
        (gateway, gatewayKey) = makeAddrAndKey("gateway");
    }

    function _params() internal pure virtual returns (Params memory p) {
        p.minimumProviderStake = 10_000 ether;
        p.minimumVerifierStake = 20_000 ether;
        p.unbondingPeriod = 1_000;
        p.jailPeriod = 300;
        p.thawPeriod = 600;
        p.commitDelay = 1;
        p.epochLength = 10;
        p.postingEpochs = 3;
        p.keyEpochs = 50;
        p.challengeWindow = 50;
        p.verifierBps = 500;
        p.treasuryBps = 200;
        p.burnBps = 100;
        p.disputes = IDisputes.Parameters(1_000 ether, 100 ether, 5_000, 500, 4_000, 300, 120);
    }

    // parties

    function _fund(address account, uint256 amount) internal {
        assertTrue(token.transfer(account, amount));
    }

    function _stake(address account, uint128 amount) internal {
        token.approve(address(staking), amount);
        staking.stake(account, amount);
    }

    function _joinProvider() internal {
        _stake(owner, STAKE);
        vm.startPrank(owner);
        providers.register(operator, "grpcs://127.0.0.1:1", bytes32(uint256(1)));
        providers.makeOffer(_offer(0, 30));
        vm.stopPrank();
    }

    function _offer(uint16 first, uint16 end) internal view returns (IProviderRegistry.Offer memory) {
        return IProviderRegistry.Offer(modelId, first, end, keccak256("float32/sdpa"), 1 ether, 1 ether, 2 ether, true);
    }

    function _registerModel(uint16 royaltyBps) internal {
        IModelRegistry.Registration memory r = _registration(royaltyBps);
        vm.startPrank(creator);
        models.commit(keccak256(abi.encode(r, creator)));
        skip(1);
        modelId = models.register(r);
        vm.stopPrank();
    }

    function _registration(uint16 royaltyBps) internal view returns (IModelRegistry.Registration memory) {
        return IModelRegistry.Registration({
            manifestRoot: keccak256("manifest"),
            layerCount: 30,
            cutPoints: 1 << 10,
            toleranceRoot: keccak256("tolerance"),
            royaltyBps: royaltyBps,
            payout: creator,
            metadataUri: "ipfs://x",
            salt: bytes32(uint256(7))
        });
    }

    /// @dev Judge `i` has BLS secret `i + 1`; all count from two epochs on.
    function _joinVerifiers() internal {
        for (uint256 i; i < VERIFIERS; ++i) {
            judges[i] = makeAddr(string.concat("judge", vm.toString(i)));
            _stake(judges[i], STAKE);
            bytes memory key = Bls.publicKey(i + 1);
            bytes memory proof = Bls.sign(i + 1, _possession(judges[i], key));
            vm.prank(judges[i]);
            verifiers.register(key, proof, "http://127.0.0.1:1");
        }
        skip(20);
    }

    function _possession(address verifier, bytes memory key) internal view returns (bytes memory) {
        bytes32 payload = keccak256(abi.encode(verifier, keccak256(key)));
        return verifiers.messageFor("POSSESSION", address(verifiers), 0, payload);
    }

    function _attest() internal {
        uint64 epoch = verifiers.currentEpoch();
        bytes32 payload = keccak256(abi.encode(modelId, keccak256("tolerance")));
        bytes memory message = verifiers.messageFor("TOLERANCE", address(models), epoch, payload);
        uint256[] memory signers = new uint256[](3);
        (signers[1], signers[2]) = (1, 2);
        models.attestTolerance(modelId, epoch, signers, _aggregate(message, 3));
    }

    function _aggregate(bytes memory message, uint256 count) internal view returns (bytes memory signature) {
        signature = Bls.sign(1, message);
        for (uint256 i = 2; i <= count; ++i) {
            signature = Bls.aggregate(signature, Bls.sign(i, message));
        }
    }

    function _fundPayer(uint128 amount) internal {
        _fund(payer, amount);
        vm.startPrank(payer);
        token.approve(address(escrow), amount);
        escrow.deposit(payer, amount);
        escrow.setLimit(gateway, amount, 1 days, uint64(block.timestamp + 365 days), new bytes32[](0));
        vm.stopPrank();
    }

    function _bond(uint128 amount, uint128 allocation) internal {
        token.approve(address(escrow), amount);
        escrow.addBond(gateway, amount);
        vm.prank(gateway);
        escrow.allocate(owner, allocation);
    }

    // work

    function _receipt(uint64 number, uint128 amount) internal view returns (ReceiptLib.Receipt memory r) {
        r.provider = owner;
        r.number = number;
        r.jobId = keccak256(abi.encode("job", number));
        r.payer = payer;
        r.gateway = gateway;
        r.modelId = modelId;
        r.endLayer = 30;
        r.executionClass = keccak256("float32/sdpa");
        r.positionCount = 10;
        r.promptTokens = 5;
        r.completionTokens = 6;
        r.amount = amount;
    }

    /// @dev A batch of one receipt, whose leaf is the root.
    function _anchor(ReceiptLib.Receipt memory r) internal returns (uint64 batchId) {
        vm.prank(operator);
        return commitments.anchor(ReceiptLib.leaf(r), r.number, r.number, r.amount, 11);
    }

    function _voucher(uint128 cumulative) internal view returns (ISettlement.Voucher[] memory vouchers, bytes[] memory signatures) {
        vouchers = new ISettlement.Voucher[](1);
        signatures = new bytes[](1);
        vouchers[0] = ISettlement.Voucher(payer, gateway, owner, modelId, cumulative);
        signatures[0] = _sign(gatewayKey, settlement.hashVoucher(vouchers[0]));
    }

    function _sign(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    function _redeem(uint128 cumulative) internal returns (ISettlement.Result) {
        (ISettlement.Voucher[] memory vouchers, bytes[] memory signatures) = _voucher(cumulative);
        return settlement.redeem(vouchers, signatures)[0];
    }

    function _openDispute(ReceiptLib.Receipt memory r, uint64 batchId, address challenger) internal returns (uint256) {
        _fund(challenger, 1_000 ether);
        vm.startPrank(challenger);
        token.approve(address(disputes), 1_000 ether);
        uint256 id = disputes.open(r, batchId, new bytes32[](0), IDisputes.Kind.Output);
        vm.stopPrank();
        return id;
    }

    /// @dev The verdict of judges 1 and 2, judge 0 being the challenger.
    function _verdict(uint256 id, bool guilty) internal {
        (uint256[] memory signers, bytes memory signature) = _signedVerdict(id, guilty);
        disputes.verdict(id, guilty, signers, signature);
    }

    function _signedVerdict(uint256 id, bool guilty) internal view returns (uint256[] memory signers, bytes memory signature) {
        uint64 epoch = disputes.dispute(id).epoch;
        bytes memory message = verifiers.messageFor("VERDICT", address(disputes), epoch, disputes.verdictPayload(id, guilty));
        signers = new uint256[](2);
        (signers[0], signers[1]) = (1, 2);
        signature = Bls.aggregate(Bls.sign(2, message), Bls.sign(3, message));
    }

    function _assertLedgers() internal view {
        assertEq(staking.ledger(), token.balanceOf(address(staking)), "staking");
        assertEq(escrow.ledger(), token.balanceOf(address(escrow)), "escrow");
        assertEq(settlement.ledger(), token.balanceOf(address(settlement)), "settlement");
        assertEq(disputes.ledger(), token.balanceOf(address(disputes)), "disputes");
    }
}
