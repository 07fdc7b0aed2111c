// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry} from "../../src/interfaces/IModelRegistry.sol";
import {IProviderRegistry} from "../../src/interfaces/IProviderRegistry.sol";
import {Network} from "../utils/Network.t.sol";

contract ProviderRegistryTest is Network {
    function test_register__without_stake__reverts() public {
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.StakeBelowMinimum.selector, 0, 10_000 ether));
        providers.register(operator, "", 0);
    }

    function test_register__twice__reverts() public {
        _joinProvider();
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.AlreadyRegistered.selector, owner));
        providers.register(makeAddr("other"), "", 0);
    }

    function test_register__operator_of_another__reverts() public {
        _joinProvider();
        _stake(creator, STAKE);
        vm.prank(creator);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.OperatorTaken.selector, operator));
        providers.register(operator, "", 0);
    }

    function test_setOperator__new_key__old_one_stays_attributable() public {
        _joinProvider();
        address fresh = makeAddr("fresh");
        vm.prank(owner);
        providers.setOperator(fresh);
        assertEq(providers.providerOf(operator), owner);
        assertEq(providers.providerInfo(owner).operator, fresh);
    }

    function test_setEndpoint__provider__changes_it() public {
        _joinProvider();
        vm.prank(owner);
        providers.setEndpoint("grpcs://host:2", bytes32(uint256(2)));
        assertEq(providers.providerInfo(owner).endpoint, "grpcs://host:2");
    }

    function test_registerGpu__provider__is_listed() public {
        _joinProvider();
        vm.prank(owner);
        providers.registerGpu(IProviderRegistry.Gpu("CPU", 1, 2, 3, 0));
        assertEq(providers.gpusOf(owner)[0].model, "CPU");
    }

    function test_registerGpu__stranger__reverts() public {
        vm.prank(payer);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotRegistered.selector, payer));
        providers.registerGpu(IProviderRegistry.Gpu("CPU", 1, 2, 3, 0));
    }

    function test_makeOffer__empty_range__reverts() public {
        _joinProvider();
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.BadLayerRange.selector, 5, 5));
        providers.makeOffer(_offer(5, 5));
    }

    function test_makeOffer__beyond_the_stake__reverts() public {
        _joinProvider();
        vm.startPrank(owner);
        providers.makeOffer(_offer(0, 10));
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.StakeBelowMinimum.selector, STAKE, 30_000 ether));
        providers.makeOffer(_offer(10, 20));
    }

    function test_withdrawOffer__twice__reverts() public {
        _joinProvider();
        vm.startPrank(owner);
        providers.withdrawOffer(0);
        assertEq(providers.offersFor(modelId).length, 0);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NoSuchOffer.selector, 0));
        providers.withdrawOffer(0);
    }

    function test_offersFor__jailed__are_left_out_until_unjailed() public {
        _joinProvider();
        assertEq(providers.offersFor(modelId).length, 1);
        vm.prank(address(disputes));
        providers.jail(owner);
        assertEq(providers.offersFor(modelId).length, 0);
        vm.startPrank(owner);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.Jailed.selector, block.timestamp + 300));
        providers.unjail();
        skip(300);
        providers.unjail();
        assertEq(providers.offersFor(modelId)[0].operator, operator);
    }

    function test_isServing__stake_unbonded__is_false() public {
        _joinProvider();
        vm.prank(owner);
        staking.beginUnbonding(STAKE - 1);
        assertFalse(providers.isServing(owner));
    }

    function test_offerAt__unknown__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NoSuchOffer.selector, 0));
        providers.offerAt(owner, 0);
    }
}

contract ModelRegistryTest is Network {
    function test_register__committed__wins_with_the_manifests_id() public {
        _registerModel(500);
        assertEq(modelId, keccak256(abi.encode(keccak256("manifest"))));
        assertEq(models.model(modelId).creator, creator);
    }

    function test_register__without_commitment__reverts() public {
        vm.prank(creator);
        vm.expectRevert();
        models.register(_registration(500));
    }

    function test_register__anothers_commitment__does_not_serve_the_copier() public {
        IModelRegistry.Registration memory r = _registration(500);
        models.commit(keccak256(abi.encode(r, creator)));
        skip(2);
        vm.prank(payer);
        bytes32 own = keccak256(abi.encode(r, payer));
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.NoCommitment.selector, own));
        models.register(r);
    }

    function test_register__too_early__reverts() public {
        IModelRegistry.Registration memory r = _registration(500);
        vm.startPrank(creator);
        models.commit(keccak256(abi.encode(r, creator)));
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.CommitmentTooYoung.selector, block.timestamp + 1));
        models.register(r);
    }

    function test_commit__again__does_not_restart_the_clock() public {
        models.commit("x");
        uint64 at = models.committedAt("x");
        skip(10);
        models.commit("x");
        assertEq(models.committedAt("x"), at);
    }

    function test_register__same_weights_again__reverts() public {
        _registerModel(500);
        IModelRegistry.Registration memory r = _registration(0);
        models.commit(keccak256(abi.encode(r, address(this))));
        skip(1);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.ModelTaken.selector, modelId));
        models.register(r);
    }

    function testFuzz_register__royalty__has_a_cap(uint16 bps) public {
        bps = uint16(bound(bps, 2_001, type(uint16).max));
        IModelRegistry.Registration memory r = _registration(bps);
        models.commit(keccak256(abi.encode(r, address(this))));
        skip(1);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.RoyaltyTooHigh.selector, bps, 2_000));
        models.register(r);
    }

    function test_setStatus_and_setPayout__stranger__revert() public {
        _registerModel(500);
        vm.startPrank(payer);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.NotCreator.selector, payer));
        models.setStatus(modelId, IModelRegistry.Status.Deprecated);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.NotCreator.selector, payer));
        models.setPayout(modelId, payer);
    }

    function test_setStatus_and_setPayout__creator__change() public {
        _registerModel(500);
        vm.startPrank(creator);
        models.setStatus(modelId, IModelRegistry.Status.Deprecated);
        models.setPayout(modelId, payer);
        assertEq(models.model(modelId).payout, payer);
        vm.expectRevert(IModelRegistry.BadRegistration.selector);
        models.setStatus(modelId, IModelRegistry.Status.None);
    }

    function test_attestTolerance__all_verifiers__turns_slashing_on() public {
        _registerModel(500);
        _joinVerifiers();
        _attest();
        assertTrue(models.model(modelId).toleranceAttested);
    }

    function test_attestTolerance__one_missing__reverts() public {
        _registerModel(500);
        _joinVerifiers();
        uint64 epoch = verifiers.currentEpoch();
        bytes32 payload = keccak256(abi.encode(modelId, keccak256("tolerance")));
        bytes memory message = verifiers.messageFor("TOLERANCE", address(models), epoch, payload);
        uint256[] memory signers = new uint256[](2);
        signers[1] = 1;
        bytes memory signature = _aggregate(message, 2);
        vm.expectRevert(IModelRegistry.BadAttestation.selector);
        models.attestTolerance(modelId, epoch, signers, signature);
    }
}
