// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";

import {Deploy, Deployment} from "../../script/Deploy.s.sol";
import {Guarded} from "../../src/access/Guarded.sol";
import {ICommitmentLog} from "../../src/interfaces/ICommitmentLog.sol";
import {IAttendance} from "../../src/interfaces/IAttendance.sol";
import {IContradictions} from "../../src/interfaces/IContradictions.sol";
import {IDisputes} from "../../src/interfaces/IDisputes.sol";
import {IModelRegistry} from "../../src/interfaces/IModelRegistry.sol";
import {IPaymentEscrow} from "../../src/interfaces/IPaymentEscrow.sol";
import {IPins} from "../../src/interfaces/IPins.sol";
import {IPlants} from "../../src/interfaces/IPlants.sol";
import {IProviderRegistry} from "../../src/interfaces/IProviderRegistry.sol";
import {IRewardPool} from "../../src/interfaces/IRewardPool.sol";
import {ISettlement} from "../../src/interfaces/ISettlement.sol";
import {IStaking} from "../../src/interfaces/IStaking.sol";
import {IVerifierSet} from "../../src/interfaces/IVerifierSet.sol";
import {ReceiptLib} from "../../src/libraries/ReceiptLib.sol";
import {Attendance} from "../../src/dispute/Attendance.sol";
import {Contradictions} from "../../src/dispute/Contradictions.sol";
import {Disputes} from "../../src/dispute/Disputes.sol";
import {PaymentEscrow} from "../../src/market/PaymentEscrow.sol";
import {Settlement} from "../../src/market/Settlement.sol";
import {ModelRegistry} from "../../src/registry/ModelRegistry.sol";
import {ProviderRegistry} from "../../src/registry/ProviderRegistry.sol";
import {RewardPool} from "../../src/staking/RewardPool.sol";
import {Staking} from "../../src/staking/Staking.sol";
import {FuncToken} from "../../src/token/FuncToken.sol";
import {CommitmentLog} from "../../src/verify/CommitmentLog.sol";
import {Pins} from "../../src/verify/Pins.sol";
import {Plants} from "../../src/verify/Plants.sol";
import {VerifierSet} from "../../src/verify/VerifierSet.sol";
import {Bls} from "./Bls.sol";
import {TestDeployment} from "./TestDeployment.sol";

/// @notice A deployed network with its parties, for the tests to act on. This contract is governor, guardian and treasury.
abstract contract Network is Test {
    AccessManager internal access;
    TimelockController internal timelock;
    FuncToken internal token;
    Staking internal staking;
    RewardPool internal rewards;
    ProviderRegistry internal providers;
    ModelRegistry internal models;
    PaymentEscrow internal escrow;
    VerifierSet internal verifiers;
    CommitmentLog internal commitments;
    Settlement internal settlement;
    Disputes internal disputes;
    Contradictions internal contradictions;
    Pins internal pins;
    Plants internal plants;
    Attendance internal attendance;

    uint256 internal constant VERIFIERS = 3;
    uint96 internal constant STAKE = 20_000 ether;
    uint96 internal constant BOND = 1_000 ether;
    uint96 internal constant APPEAL_BOND = 2_000 ether;

    address internal owner = makeAddr("owner");
    address internal creator = makeAddr("creator");
    address internal payer = makeAddr("payer");
    address internal delegator = makeAddr("delegator");
    address internal operator;
    uint256 internal operatorKey;
    address internal gateway;
    uint256 internal gatewayKey;
    address[] internal judges;
    bytes32 internal modelId;

    function setUp() public virtual {
        vm.warp(1_000_000);
        TestDeployment d = TestDeployment(vm.deployCode("TestDeployment.sol:TestDeployment"));
        d.deploy(address(this), address(this), address(this), _params());
        (access, timelock, token) = (d.access(), d.timelock(), d.token());
        (staking, rewards, providers, models) = (d.staking(), d.rewards(), d.providers(), d.models());
        (escrow, settlement, verifiers) = (d.escrow(), d.settlement(), d.verifiers());
        (commitments, pins, disputes, contradictions) = (d.commitments(), d.pins(), d.disputes(), d.contradictions());
        (plants, attendance) = (d.plants(), d.attendance());
        (operator, operatorKey) = makeAddrAndKey("operator");
        (gateway, gatewayKey) = makeAddrAndKey("gateway");
    }

    function _params() internal pure virtual returns (Deployment.Params memory p) {
        p.minimumProviderStake = 10_000 ether;
        p.gpuStake = 1_000 ether;
        p.minimumVerifierStake = 20_000 ether;
        p.unbondingPeriod = 1_000;
        p.jailPeriod = 300;
        p.rotationThaw = 100;
        p.thawPeriod = 600;
        p.commitDelay = 1;
        p.deprecationDelay = 200;
        p.times = VerifierSet.Times({epochLength: 10, postingEpochs: 3, keyEpochs: 100});
        p.committeeSize = 15;
        p.challengeWindow = 50;
        p.retention = 700;
        p.pinWindow = 40;
        p.rewardEpoch = 100;
        p.emission = 100 ether;
        p.timelockDelay = 10;
        p.adminDelay = 1_000;
        p.verifierBps = 500;
        p.treasuryBps = 200;
        p.burnBps = 100;
        p.disputes = _disputeParameters();
        p.plants = IPlants.Terms({bounty: 200 ether, fine: 1_000 ether, answerWindow: 40, lifetime: 1_000, spared: 1});
    }

    function _disputeParameters() internal pure returns (IDisputes.Parameters memory) {
        return IDisputes.Parameters({
            bond: BOND,
            appealBond: APPEAL_BOND,
            slashBps: 5_000,
            smallNetworkSlashBps: 500,
            challengerBps: 4_000,
            judgesFee: 100 ether,
            appealFee: 200 ether,
            disputeWindow: 300,
            evidencePeriod: 10,
            verdictPeriod: 120,
            appealPeriod: 60
        });
    }

    // parties

    function _fund(address account, uint256 amount) internal {
        assertTrue(token.transfer(account, amount));
    }

    function _stake(address account, uint128 amount) internal {
        token.approve(address(staking), amount);
        staking.stake(account, amount);
    }

    function _delegate(address account, uint128 amount) internal returns (uint256 shares) {
        _fund(delegator, amount);
        vm.startPrank(delegator);
        token.approve(address(staking), amount);
        shares = staking.delegate(account, amount);
        vm.stopPrank();
    }

    /// @dev A provider of a registered model.
    function _joinProvider() internal {
        if (modelId == 0) _registerModel(500);
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
            cutPoints: (1 << 10) | (1 << 20),
            toleranceRoot: keccak256("tolerance"),
            royaltyBps: royaltyBps,
            payout: creator,
            metadataUri: "ipfs://x",
            salt: bytes32(uint256(7))
        });
    }

    /// @dev Judge `i` has BLS secret `i + 1`; all count from two epochs on.
    function _joinVerifiers() internal {
        _joinVerifiers(VERIFIERS);
    }

    function _joinVerifiers(uint256 count) internal {
        for (uint256 i; i < count; ++i) {
            address judge = makeAddr(string.concat("judge", vm.toString(i)));
            judges.push(judge);
            _stake(judge, STAKE);
            bytes memory key = Bls.publicKey(i + 1);
            bytes memory proof = Bls.sign(i + 1, _possession(judge, key));
            vm.prank(judge);
            verifiers.register(key, proof, "http://127.0.0.1:1");
        }
        verifiers.buildSet();
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
        models.attestTolerance(modelId, keccak256("tolerance"), epoch, new uint256[](0), _aggregate(message, 0, judges.length));
    }

    /// @dev Signatures of judges `from` to `end`, that one not included.
    function _aggregate(bytes memory message, uint256 from, uint256 end) internal view returns (bytes memory signature) {
        uint256 sum;
        for (uint256 i = from; i < end; ++i) {
            sum += i + 1;
        }
        // One message: the sum of signatures is the signature by the sum of secrets.
        return Bls.sign(sum, message);
    }

    function _permit(uint256 key, address holder, uint256 amount) internal view returns (uint8 v, bytes32 r, bytes32 s) {
        bytes32 typehash = keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        bytes32 body = keccak256(abi.encode(typehash, holder, address(escrow), amount, token.nonces(holder), block.timestamp));
        return vm.sign(key, keccak256(abi.encodePacked(hex"1901", token.DOMAIN_SEPARATOR(), body)));
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

    /// @dev Everything that a job needs: model, provider, verifiers, payer and bond.
    function _joinAll() internal {
        _registerModel(500);
        _joinProvider();
        _joinVerifiers();
        _attest();
        _fundPayer(100 ether);
        _bond(50 ether, 50 ether);
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

    function _release(uint64 batchId) internal returns (uint256 net) {
        return settlement.release(owner, batchId, _models());
    }

    function _models() internal view returns (bytes32[] memory list) {
        list = new bytes32[](1);
        list[0] = modelId;
    }

    // disputes

    function _claim(ReceiptLib.Receipt memory r, uint64 batchId) internal pure returns (IDisputes.Claim memory) {
        return IDisputes.Claim(r, batchId, ReceiptLib.leaf(r), IDisputes.Kind.Output);
    }

    function _hiddenClaim(ReceiptLib.Receipt memory r, uint64 batchId) internal view returns (IDisputes.Claim memory) {
        return IDisputes.Claim(r, batchId, commitments.batch(owner, batchId).root, IDisputes.Kind.Hidden);
    }

    function _openDispute(ReceiptLib.Receipt memory r, uint64 batchId, address challenger) internal returns (uint256 id) {
        return _openAs(r, batchId, challenger, IDisputes.Kind.Output);
    }

    function _openHidden(ReceiptLib.Receipt memory r, uint64 batchId, address challenger) internal returns (uint256 id) {
        return _openAs(r, batchId, challenger, IDisputes.Kind.Hidden);
    }

    function _openAs(ReceiptLib.Receipt memory r, uint64 batchId, address challenger, IDisputes.Kind kind) private returns (uint256 id) {
        _fund(challenger, BOND);
        vm.startPrank(challenger);
        token.approve(address(disputes), BOND);
        id = disputes.open(r, batchId, new bytes32[](0), kind);
        vm.stopPrank();
    }

    /// @dev A disputed receipt of `amount`, redeemed and held; judge 0 challenges.
    function _disputed(uint128 amount) internal returns (IDisputes.Claim memory claim, bytes32 evidenceId) {
        ReceiptLib.Receipt memory r = _receipt(commitments.lastNumber(owner) + 1, amount);
        uint64 batchId = _anchor(r);
        _redeem(settlement.redeemedOf(payer, gateway, owner, modelId) + amount);
        _openDispute(r, batchId, judges[0]);
        claim = _claim(r, batchId);
        evidenceId = disputes.evidenceIdOf(claim);
    }

    /// @dev The verdict of all judges but judge 0, who is the challenger.
    function _verdict(bytes32 evidenceId, IDisputes.Outcome outcome) internal {
        (uint256[] memory absent, bytes memory signature) = _signedVerdict(evidenceId, outcome);
        disputes.verdict(evidenceId, outcome, absent, signature);
    }

    function _signedVerdict(bytes32 evidenceId, IDisputes.Outcome outcome)
        internal
        view
        returns (uint256[] memory absent, bytes memory signature)
    {
        signature = _aggregate(_ballot(evidenceId, outcome), 1, judges.length);
        absent = new uint256[](0);
    }

    /// @dev What a judge signs in the dispute's present round.
    function _ballot(bytes32 evidenceId, IDisputes.Outcome outcome) internal view returns (bytes memory) {
        (uint256 id,,) = disputes.evidence(evidenceId);
        IDisputes.Dispute memory d = disputes.dispute(id);
        bytes32 payload = disputes.verdictPayload(id, evidenceId, d.round, outcome);
        return verifiers.messageFor("VERDICT", address(disputes), d.epoch, payload);
    }

    function _appeal(bytes32 evidenceId, address appellant) internal {
        _fund(appellant, APPEAL_BOND);
        vm.prank(appellant);
        token.approve(address(disputes), APPEAL_BOND);
        vm.prank(appellant);
        disputes.appeal(evidenceId);
    }

    function _statusOf(bytes32 evidenceId) internal view returns (IDisputes.Status) {
        (uint256 id,,) = disputes.evidence(evidenceId);
        return disputes.dispute(id).status;
    }

    /// @dev Through the timelock, as governance does.
    function _govern(address target, bytes memory call) internal {
        timelock.schedule(target, 0, call, 0, bytes32(block.timestamp), timelock.getMinDelay());
        bytes32 salt = bytes32(block.timestamp);
        skip(timelock.getMinDelay());
        timelock.execute(target, 0, call, 0, salt);
    }

    function _assertLedgers() internal view {
        assertEq(staking.ledger(), token.balanceOf(address(staking)), "staking");
        assertEq(rewards.ledger(), token.balanceOf(address(rewards)), "rewards");
        assertEq(escrow.ledger(), token.balanceOf(address(escrow)), "escrow");
        assertEq(disputes.ledger(), token.balanceOf(address(disputes)), "disputes");
        assertEq(token.balanceOf(address(settlement)), 0, "settlement");
    }
}
