// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
import {Script} from "forge-std/Script.sol";
import {stdJson} from "forge-std/StdJson.sol";

import {Roles} from "../src/access/Roles.sol";
import {Disputes} from "../src/dispute/Disputes.sol";
import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {PaymentEscrow} from "../src/market/PaymentEscrow.sol";
import {Settlement} from "../src/market/Settlement.sol";
import {ModelRegistry} from "../src/registry/ModelRegistry.sol";
import {ProviderRegistry} from "../src/registry/ProviderRegistry.sol";
import {Staking} from "../src/staking/Staking.sol";
import {FuncToken} from "../src/token/FuncToken.sol";
import {CommitmentLog} from "../src/verify/CommitmentLog.sol";
import {VerifierSet} from "../src/verify/VerifierSet.sol";

/// @notice All contracts of a deployment, and the steps that make one; the tests deploy by the same steps.
contract Deployment {
    /// @dev Names and order as in `deploy/params/*.json`.
    struct Params {
        uint128 minimumProviderStake;
        uint128 minimumVerifierStake;
        uint64 unbondingPeriod;
        uint64 jailPeriod;
        uint64 thawPeriod;
        uint64 commitDelay;
        uint64 epochLength;
        uint64 postingEpochs;
        uint64 keyEpochs;
        uint64 challengeWindow;
        uint16 verifierBps;
        uint16 treasuryBps;
        uint16 burnBps;
        IDisputes.Parameters disputes;
    }

    AccessManager public access;
    FuncToken public token;
    Staking public staking;
    ProviderRegistry public providers;
    ModelRegistry public models;
    PaymentEscrow public escrow;
    VerifierSet public verifiers;
    CommitmentLog public commitments;
    Settlement public settlement;
    Disputes public disputes;

    error UnbondingTooShort(uint64 unbonding, uint64 needed);

    function _deploy(address admin, address treasury, Params memory p) internal {
        uint64 needed = p.challengeWindow + p.disputes.disputeWindow + p.disputes.verdictPeriod;
        require(p.unbondingPeriod > needed, UnbondingTooShort(p.unbondingPeriod, needed));
        access = new AccessManager(admin);
        token = new FuncToken(treasury);
        staking = new Staking(address(access), token, p.unbondingPeriod);
        providers = new ProviderRegistry(address(access), staking, p.minimumProviderStake, p.jailPeriod);
        verifiers = new VerifierSet(staking, p.minimumVerifierStake, p.epochLength, p.postingEpochs, p.keyEpochs);
        models = new ModelRegistry(verifiers, p.commitDelay);
        escrow = new PaymentEscrow(address(access), token, p.thawPeriod);
        commitments = new CommitmentLog(address(access), providers, verifiers, p.challengeWindow);
        settlement = new Settlement(
            address(access),
            token,
            escrow,
            models,
            commitments,
            verifiers,
            Settlement.Parameters(treasury, p.verifierBps, p.treasuryBps, p.burnBps)
        );
        disputes = new Disputes(
            address(access), Disputes.Parts(token, staking, providers, models, commitments, verifiers, settlement), p.disputes
        );
        settlement.setDisputes(disputes);
        _grant();
    }

    function _grant() private {
        access.grantRole(Roles.DISPUTES, address(disputes), 0);
        access.grantRole(Roles.SETTLEMENT, address(settlement), 0);
        bytes4[] memory three = new bytes4[](3);
        (three[0], three[1], three[2]) = (Staking.freeze.selector, Staking.unfreeze.selector, Staking.slash.selector);
        access.setTargetFunctionRole(address(staking), three, Roles.DISPUTES);
        access.setTargetFunctionRole(address(providers), _one(ProviderRegistry.jail.selector), Roles.DISPUTES);
        access.setTargetFunctionRole(address(commitments), _one(CommitmentLog.resetRecord.selector), Roles.DISPUTES);
        access.setTargetFunctionRole(address(settlement), _one(Settlement.refund.selector), Roles.DISPUTES);
        bytes4[] memory two = new bytes4[](2);
        (two[0], two[1]) = (PaymentEscrow.debit.selector, PaymentEscrow.creditRefund.selector);
        access.setTargetFunctionRole(address(escrow), two, Roles.SETTLEMENT);
    }

    function _one(bytes4 selector) private pure returns (bytes4[] memory list) {
        list = new bytes4[](1);
        list[0] = selector;
    }
}

/// @notice Deploys with the parameters of `deploy/params/$NETWORK.json` and writes `deployments/<chainid>.json`.
contract Deploy is Script, Deployment {
    using stdJson for string;

    function run() external {
        string memory network = vm.envOr("NETWORK", string("devnet"));
        Params memory p = readParams(string.concat("deploy/params/", network, ".json"));
        uint256 fromBlock = block.number;
        vm.startBroadcast();
        _deploy(msg.sender, msg.sender, p);
        vm.stopBroadcast();

        string memory o = "deployment";
        o.serialize("chainId", block.chainid);
        o.serialize("fromBlock", fromBlock);
        o.serialize("AccessManager", address(access));
        o.serialize("FuncToken", address(token));
        o.serialize("Staking", address(staking));
        o.serialize("ProviderRegistry", address(providers));
        o.serialize("ModelRegistry", address(models));
        o.serialize("PaymentEscrow", address(escrow));
        o.serialize("VerifierSet", address(verifiers));
        o.serialize("CommitmentLog", address(commitments));
        o.serialize("Settlement", address(settlement));
        string memory json = o.serialize("Disputes", address(disputes));
        json.write(string.concat("deployments/", vm.toString(block.chainid), ".json"));
    }

    function readParams(string memory path) public view returns (Params memory p) {
        string memory json = vm.readFile(path);
        p.minimumProviderStake = uint128(json.readUint(".minimumProviderStake"));
        p.minimumVerifierStake = uint128(json.readUint(".minimumVerifierStake"));
        p.unbondingPeriod = uint64(json.readUint(".unbondingPeriod"));
        p.jailPeriod = uint64(json.readUint(".jailPeriod"));
        p.thawPeriod = uint64(json.readUint(".thawPeriod"));
        p.commitDelay = uint64(json.readUint(".commitDelay"));
        p.epochLength = uint64(json.readUint(".epochLength"));
        p.postingEpochs = uint64(json.readUint(".postingEpochs"));
        p.keyEpochs = uint64(json.readUint(".keyEpochs"));
        p.challengeWindow = uint64(json.readUint(".challengeWindow"));
        p.verifierBps = uint16(json.readUint(".verifierBps"));
        p.treasuryBps = uint16(json.readUint(".treasuryBps"));
        p.burnBps = uint16(json.readUint(".burnBps"));
        p.disputes = IDisputes.Parameters({
            bond: uint128(json.readUint(".disputeBond")),
            judgesFee: uint128(json.readUint(".judgesFee")),
            slashBps: uint16(json.readUint(".slashBps")),
            smallNetworkSlashBps: uint16(json.readUint(".smallNetworkSlashBps")),
            challengerBps: uint16(json.readUint(".challengerBps")),
            disputeWindow: uint64(json.readUint(".disputeWindow")),
            verdictPeriod: uint64(json.readUint(".verdictPeriod"))
        });
    }
}
